"""What strangers touch: the paths, what every request passes first, keys, the page, other protocols."""
