"""The report of one scoring: report.html, a single page.

`page_data.py` collects the data, and `page.py` fills `page.html.jinja` with the data. `findings.py`
lists the facts that speak against the headline (`set_differences.py` has those about how sets
were made), and `text.py` makes the other texts. `figures.py`
draws figures. `gallery.py` shows the images with the highest and the lowest scores. `views.py`
shows the views that the network was trained on.
"""
