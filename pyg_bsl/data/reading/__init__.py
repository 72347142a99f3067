"""Reading files of interactions: what :func:`pyg_bsl.data.from_files` is made of."""
