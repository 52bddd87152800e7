"""Raw files -> Arrow shards, and rows from them in an order that anyone can recompute."""
