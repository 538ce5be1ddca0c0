"""What the rows in `bench/bars` share. Standard library only."""
