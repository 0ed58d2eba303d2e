"""``make bench``: what the service costs, beside the bare SQL that it sends, on one machine in one run."""
