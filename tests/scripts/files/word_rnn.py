# coding: utf-8
import argparse
import math
import re
import time
from collections import Counter
from pydoc_data.topics import topics

import torch
import torch.nn as nn

parser = argparse.ArgumentParser(description='RNN language model on the words of Python\'s help pages')
parser.add_argument('--emsize', type=int, default=48, help='width of a word vector')
parser.add_argument('--nhid', type=int, default=64, help='units of the LSTM')
parser.add_argument('--lr', type=float, default=0.005, help='first learning rate')
parser.add_argument('--clip', type=float, default=0.5, help='gradient clipping')
parser.add_argument('--epochs', type=int, default=4, help='epochs')
parser.add_argument('--batch_size', type=int, default=20, metavar='N', help='batch size')
parser.add_argument('--bptt', type=int, default=20, help='sequence length')
parser.add_argument('--dropout', type=float, default=0.2, help='on word vectors and outputs')
parser.add_argument('--seed', type=int, default=1111, help='for weights and dropout')
parser.add_argument('--log-interval', type=int, default=25, metavar='N', help='batches between two lines')
parser.add_argument('--save', type=str, default='model.pt', help='where the best weights go')
args = parser.parse_args()

torch.manual_seed(args.seed)
device = torch.device("cpu")

###############################################################################
# Load data
###############################################################################


class Corpus(object):
    """The most frequent words get an id, the others are <unk>; every tenth page is for validation."""

    def __init__(self, n_words=400, n_tokens=55000):
        pages = [re.findall(r"[a-z]+|[.,:;()]", topics[k].lower()) for k in sorted(topics)]
        counts = Counter(w for i, page in enumerate(pages) if i % 10 for w in page)
        self.idx2word = ['<unk>', '<eos>'] + [w for w, _ in counts.most_common(n_words)]
        self.word2idx = {w: i for i, w in enumerate(self.idx2word)}
        self.train = self.tokenize([p for i, p in enumerate(pages) if i % 10])[:n_tokens]
        self.valid = self.tokenize([p for i, p in enumerate(pages) if i % 10 == 0])[:n_tokens // 8]

    def tokenize(self, pages):
        return torch.tensor([self.word2idx.get(w, 0) for page in pages for w in page + ['<eos>']])


def batchify(data, bsz):
    # what does not fill the last row is lost
    nbatch = data.size(0) // bsz
    data = data.narrow(0, 0, nbatch * bsz)
    # one stretch of text per column, time goes down
    data = data.view(bsz, -1).t().contiguous()
    return data.to(device)


corpus = Corpus()
eval_batch_size = 10
train_data = batchify(corpus.train, args.batch_size)
val_data = batchify(corpus.valid, eval_batch_size)
ntokens = len(corpus.idx2word)

###############################################################################
# Build the model
###############################################################################


class RNNModel(nn.Module):
    """Words in, one LSTM, scores of the next words out."""

    def __init__(self, ntoken, ninp, nhid, dropout=0.5):
        super(RNNModel, self).__init__()
        self.ntoken = ntoken
        self.nhid = nhid
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.Embedding(ntoken, ninp)
        self.rnn = nn.LSTM(ninp, nhid)
        self.decoder = nn.Linear(nhid, ntoken)
        self.init_weights()

    def init_weights(self):
        nn.init.uniform_(self.encoder.weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)
        nn.init.uniform_(self.decoder.weight, -0.1, 0.1)

    def forward(self, input, hidden):
        emb = self.drop(self.encoder(input))
        output, hidden = self.rnn(emb, hidden)
        decoded = self.decoder(self.drop(output))
        return decoded.view(-1, self.ntoken), hidden

    def init_hidden(self, bsz):
        weight = next(self.parameters())
        return weight.new_zeros(1, bsz, self.nhid), weight.new_zeros(1, bsz, self.nhid)


model = RNNModel(ntokens, args.emsize, args.nhid, args.dropout).to(device)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)

###############################################################################
# Training code
###############################################################################


def repackage_hidden(h):
    """The same numbers without what they were computed from."""
    if isinstance(h, torch.Tensor):
        return h.detach()
    return tuple(repackage_hidden(v) for v in h)


def get_batch(source, i):
    # data: words i .. i+bptt of every column; target: the words that follow them
    seq_len = min(args.bptt, len(source) - 1 - i)
    data = source[i:i + seq_len]
    target = source[i + 1:i + 1 + seq_len].view(-1)
    return data, target


def evaluate(data_source):
    model.eval()
    total_loss = 0.
    hidden = model.init_hidden(eval_batch_size)
    with torch.no_grad():
        for i in range(0, data_source.size(0) - 1, args.bptt):
            data, targets = get_batch(data_source, i)
            output, hidden = model(data, hidden)
            hidden = repackage_hidden(hidden)
            total_loss += len(data) * criterion(output, targets).item()
    return total_loss / (len(data_source) - 1)


def train():
    model.train()
    total_loss = 0.
    start_time = time.time()
    hidden = model.init_hidden(args.batch_size)
    for batch, i in enumerate(range(0, train_data.size(0) - 1, args.bptt)):
        data, targets = get_batch(train_data, i)
        # the state goes on, its gradient ends here
        hidden = repackage_hidden(hidden)
        optimizer.zero_grad()
        output, hidden = model(data, hidden)
        loss = criterion(output, targets)
        loss.backward()

        # an LSTM may explode now and then
        torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip)
        optimizer.step()

        total_loss += loss.item()
        if batch % args.log_interval == 0 and batch > 0:
            cur_loss = total_loss / args.log_interval
            elapsed = time.time() - start_time
            print('epoch {:2d} | {:4d} of {:4d} | lr {:.4f} | {:5.1f} ms | loss {:5.2f} | ppl {:7.2f}'
                  .format(epoch, batch, len(train_data) // args.bptt, optimizer.param_groups[0]['lr'],
                          elapsed * 1000 / args.log_interval, cur_loss, math.exp(cur_loss)))
            total_loss = 0
            start_time = time.time()


best_val_loss = None

# Ctrl-C ends it early
try:
    for epoch in range(1, args.epochs + 1):
        epoch_start_time = time.time()
        train()
        val_loss = evaluate(val_data)
        print('=' * 70)
        print('epoch {:2d} took {:.1f} s | valid loss {:5.2f} | valid ppl {:7.2f}'
              .format(epoch, time.time() - epoch_start_time, val_loss, math.exp(val_loss)))
        print('=' * 70)
        if not best_val_loss or val_loss < best_val_loss:
            torch.save(model.state_dict(), args.save)
            best_val_loss = val_loss
        else:
            # no better than before: smaller steps
            for group in optimizer.param_groups:
                group['lr'] /= 4.0
except KeyboardInterrupt:
    print('stopped by hand')
