"""What Segue says about itself while it works."""
