"""What runs inside the application, while a user waits: knows ports only, and nothing of the phases."""
