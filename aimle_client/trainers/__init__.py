"""What learns on a device: a trainer holds the local data and turns global parameters into local ones.

`base` says what a trainer is and reads the training profile; `numpy_models` needs nothing but NumPy, `sklearn`
and `pytorch` wrap models of those libraries, which are imported only with these modules.
"""
