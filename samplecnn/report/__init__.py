"""The report: one HTML page, without network, that says how recordings were graded and how far to trust it.

grading.py reads a grades folder, evaluation.py an evaluation; page.py renders what they say; write.py puts the page
where the results lie. What a recording is named, or says in its tags, is untrusted: the page is a Jinja2 template with
escaping on, its data is JSON that its script writes as text only, and it forbids every script but its own.
"""
