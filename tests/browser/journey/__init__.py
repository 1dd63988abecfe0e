"""What a visitor does in each lab: one file a lab, ``visit(page)`` on the page that is open; test_labs.py goes from one to the next."""
