from trains_in_main import model, train_loader, loss_fn
