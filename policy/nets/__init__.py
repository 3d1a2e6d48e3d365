"""Networks: a model owns its normaliser, its distribution and its export."""
