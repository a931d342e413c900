"""Settings of all tests."""

from hypothesis import HealthCheck, settings

# A machine under load is slow, and that is no failure.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# `make soak` asks for it with --hypothesis-profile.
settings.register_profile("soak", settings.get_profile("patient"), max_examples=3000, print_blob=True)
settings.load_profile("patient")
