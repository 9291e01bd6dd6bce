"""The site that `make docs` builds: the API reference, from docstrings, and the pages of this repository.

pdoc renders the docstrings, and brings the Markdown and the highlighting that the pages are rendered with.
It was taken because it reads docstrings as they are here, Markdown with the sections `Args`, `Returns` and
`Raises`, gives each name of a package's `__all__` a place where users import it, and needs three small
packages beside itself.
"""
