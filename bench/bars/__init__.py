"""A row a file. To add one: a file with NAME, WHAT, BAR and `measure(workbench) -> Measured`."""
