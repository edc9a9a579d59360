"""What runs inside the application, while its users wait or beside them."""
