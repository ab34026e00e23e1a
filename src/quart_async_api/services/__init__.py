"""Operations that routes and the command line share, without HTTP."""
