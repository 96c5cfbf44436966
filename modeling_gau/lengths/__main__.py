from .measuring import main


main()
