"""`reproduce.py` of a bundle: the first finding shown with torch alone, in plain code for a bug report.

`setup.py` and the files named by stage hold that code, one function a check, called like the check; `compose.py` puts those
parts of their source into one script that a finding needs. They import nothing but torch and the standard library.
"""
