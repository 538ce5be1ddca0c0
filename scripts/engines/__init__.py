"""One file per engine that tests run against. To add one: a file with `NAME`, `install` and `start`."""
