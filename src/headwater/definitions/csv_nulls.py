"""What means NULL in a CSV file; a module of its own, since CSV sources state it and their format is imported late."""

CSV_NULLS = ("", "NA", "NULL")
