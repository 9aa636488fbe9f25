answer = input("learning rate? ")
