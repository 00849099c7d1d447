"""What heights are for: potentials, the map, distances, couplings."""
