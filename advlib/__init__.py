"""The batched code behind an executable book on adversarial examples.

One module a topic, in the order in which data flows: `data` gives images, `networks` turn images into
logits, `metrics` and `plots` take arrays only. Import the module you need:

>>> from advlib import data, networks
"""

__version__ = "0.1.0"
