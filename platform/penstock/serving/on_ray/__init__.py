"""The endpoint under Ray Serve: gateways, replicas, slots, the switch between them; HAProxy in front."""
