"""The agent of a storage host: owns the pool, supervises the workers, reports to the controller.

May import `messages`, `errors`, `stores`, `core.limits` and `core.tracking.kept`; runs workers as processes and never
imports `worker`.
"""
