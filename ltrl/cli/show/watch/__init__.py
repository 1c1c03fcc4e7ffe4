"""What `ltrl watch` draws."""
