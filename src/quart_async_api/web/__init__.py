"""The pages for people: the console, and the description of the API."""
