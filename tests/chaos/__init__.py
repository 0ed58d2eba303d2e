"""The proof that nothing is paid twice, whatever breaks: ``make prove``.

Clients of every verb, several processes of the service, faults everywhere, a gateway that writes
down what really moved; and a checker that compares afterwards. ``script.py`` is what the clients
do and ``trouble.py`` what happens to them, both from the seed alone; ``run.py`` tells a run from
its beginning to its end, and ``mutants.py`` shows that the checker would have found something.
"""
