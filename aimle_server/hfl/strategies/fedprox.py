"""FedProx (Li et al. 2020, Federated Optimization in Heterogeneous Networks).

All that FedProx adds to FedAvg happens at the client, whose loss gains `proximalMu / 2 * |w - w_global|^2`
(the trainers of `aimle_client` do that). The server averages as in FedAvg.
"""

from aimle_server.hfl.strategies.fedavg import FedAvg


class FedProx(FedAvg):
    """FedAvg at the server, under the name that training profiles and clients know it by."""
