"""Communication with other machines."""
