"""Deep Q-learning on a small grid with walls. The agent starts anywhere and looks for the goal."""
import argparse
import random
from collections import deque, namedtuple

import torch
import torch.nn as nn
import torch.nn.functional as F

Transition = namedtuple('Transition', ('state', 'action', 'next_state', 'reward', 'done'))


class GridWorld:
    SIZE = 5
    WALLS = {(1, 1), (1, 2), (3, 3)}
    GOAL = (4, 4)
    MOVES = [(-1, 0), (1, 0), (0, -1), (0, 1)]

    def reset(self):
        while True:
            self.pos = (random.randrange(self.SIZE), random.randrange(self.SIZE))
            if self.pos not in self.WALLS and self.pos != self.GOAL:
                break
        self.steps = 0
        return self._state()

    def _state(self):
        s = torch.zeros(self.SIZE * self.SIZE)
        s[self.pos[0] * self.SIZE + self.pos[1]] = 1.0
        return s

    def step(self, action):
        dr, dc = self.MOVES[action]
        r, c = self.pos[0] + dr, self.pos[1] + dc
        if 0 <= r < self.SIZE and 0 <= c < self.SIZE and (r, c) not in self.WALLS:
            self.pos = (r, c)
        self.steps += 1
        reached = self.pos == self.GOAL
        return self._state(), 1.0 if reached else -0.04, reached, reached or self.steps >= 30


class ReplayMemory:
    def __init__(self, capacity):
        self.memory = deque([], maxlen=capacity)

    def push(self, *args):
        self.memory.append(Transition(*args))

    def sample(self, batch_size):
        return random.sample(self.memory, batch_size)

    def __len__(self):
        return len(self.memory)


class DQN(nn.Module):
    def __init__(self, n_obs, n_actions):
        super().__init__()
        self.layer1 = nn.Linear(n_obs, 64)
        self.layer2 = nn.Linear(64, 64)
        self.layer3 = nn.Linear(64, n_actions)

    def forward(self, x):
        return self.layer3(F.relu(self.layer2(F.relu(self.layer1(x)))))


parser = argparse.ArgumentParser()
parser.add_argument('--episodes', type=int, default=150)
parser.add_argument('--batch-size', type=int, default=64)
parser.add_argument('--gamma', type=float, default=0.95)
parser.add_argument('--lr', type=float, default=2e-3)
parser.add_argument('--target-every', type=int, default=50)
args = parser.parse_args()

random.seed(0)
torch.manual_seed(0)

env = GridWorld()
policy_net = DQN(25, 4)
target_net = DQN(25, 4)
target_net.load_state_dict(policy_net.state_dict())
optimizer = torch.optim.AdamW(policy_net.parameters(), lr=args.lr, amsgrad=True)
memory = ReplayMemory(5000)
steps_done = 0
losses = []


def select_action(state, eps):
    if random.random() < eps:
        return random.randrange(4)
    with torch.no_grad():
        return policy_net(state).argmax().item()


def optimize_model():
    global steps_done
    if len(memory) < args.batch_size:
        return
    batch = Transition(*zip(*memory.sample(args.batch_size)))
    state = torch.stack(batch.state)
    action = torch.tensor(batch.action).unsqueeze(1)
    next_state = torch.stack(batch.next_state)
    reward = torch.tensor(batch.reward)
    done = torch.tensor(batch.done, dtype=torch.float32)

    q = policy_net(state).gather(1, action).squeeze(1)
    with torch.no_grad():
        next_q = target_net(next_state).max(1).values
    expected = reward + args.gamma * next_q * (1 - done)
    loss = F.smooth_l1_loss(q, expected)

    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_value_(policy_net.parameters(), 100)
    optimizer.step()
    losses.append(loss.item())
    steps_done += 1
    if steps_done % args.target_every == 0:
        target_net.load_state_dict(policy_net.state_dict())


returns = deque(maxlen=25)
for episode in range(args.episodes):
    eps = max(0.05, 1.0 - episode / (0.6 * args.episodes))
    state, over, total = env.reset(), False, 0.0
    while not over:
        action = select_action(state, eps)
        next_state, reward, reached, over = env.step(action)
        memory.push(state, action, next_state, reward, reached)
        state = next_state
        total += reward
        optimize_model()
    returns.append(total)
    if (episode + 1) % 25 == 0:
        print('episode %3d  eps %.2f  mean return %.3f  loss %.4f'
              % (episode + 1, eps, sum(returns) / len(returns), sum(losses[-50:]) / max(1, len(losses[-50:]))))
