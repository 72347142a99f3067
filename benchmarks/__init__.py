"""How fast the library is, and how lean, beside the usual ways; for developers.

``python -m benchmarks`` measures every subject and writes the tables of ``benchmarks/README.md``.
"""
