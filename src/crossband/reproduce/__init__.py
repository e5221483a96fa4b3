"""The tables of two papers as data, and what fills our column beside theirs.

- `table`, `csknet_tables`, `amdanet_tables`, `tables`: what the papers print.
- `settings`, `settings_words`, `settings_file`: what was asked for.
- `jobs`, `quick`, `planning`: which trainings that takes.
- `folders`: where they lie, how far they are and what they scored.
- `estimate`, `plan_text`: how long they will take, before they run.
- `running`, `ray_launcher`: doing them.
- `sizes`, `facts`, `filling`, `sheet`, `printing`: the tables with our figures, as Markdown, CSV and HTML.
- `reproducing`: all of it, in order.
"""
