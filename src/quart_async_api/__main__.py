"""python -m quart_async_api"""

from .cli import main

main()
