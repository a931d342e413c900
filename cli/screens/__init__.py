"""What people work in: screens of the terminal and pages of the browser."""
