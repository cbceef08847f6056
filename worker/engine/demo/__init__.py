"""The `demo` model: what it makes of a message (`reading`, by `arithmetic` and `places`) and what it says (`texts`)."""
