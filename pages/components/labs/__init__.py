"""What the pages of the group *Learn* share (frame, settings, questions, small pictures), and the parts of each lab."""
