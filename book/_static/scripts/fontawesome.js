/* Icons come from the theme's fonts and style sheet; this stands in for its 1.5 MB script. */
