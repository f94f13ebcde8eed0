"""Models: what a graph carries (:class:`~xglof.models.spec.ModelSpec`) and the networks it names."""
