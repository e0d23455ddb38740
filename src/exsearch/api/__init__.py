"""What `import exsearch` offers besides the classes and functions of the other packages: one call per stage."""
