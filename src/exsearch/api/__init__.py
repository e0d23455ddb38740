"""What `import exsearch` offers beyond the classes and functions of the rooms below: one call for each stage."""
