"""report.html: one scoring on one page.

`page.py` fills `page.html.jinja` from what `page_data.py` has gathered: `findings.py` says what
speaks against the headline, `charts.py` draws, `gallery.py` shows the images with the lowest and
the highest scores, `views.py` what the network was trained on, and `text.py` words numbers.
"""
