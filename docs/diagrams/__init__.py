"""The diagrams of the documentation: what they show, and the painter that draws them as SVG.

`make diagrams` draws them all into ``docs/pictures``. Each module of `drawings` is the source of
some of them. The painter needs Python alone, and draws the same bytes wherever it runs, so that a
test can draw every diagram anew and say which picture is out of date.

All diagrams speak one language (`language`): a colour for each kind of thing, and a style for each
kind of line.
"""
