"""Write predicted networks to files, with a module for each format."""
