"""The report of one scoring: report.html, a single page.

`page_data.py` gathers the data and `page.py` fills `page.html.jinja` with it. `findings.py` lists
the facts that speak against the headline, `text.py` makes the other texts, `figures.py` draws,
`gallery.py` shows the images with the highest and the lowest scores, and `views.py` the views that
the network was trained on.
"""
