"""One run of the command line as a process: what it was asked, who watches over it, what it prints."""
