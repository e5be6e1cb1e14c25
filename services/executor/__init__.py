"""The executor: turn intents into orders, positions and closed trades.

Reads
    ``intents``, ``market`` and ``decisions`` of its partition, ``control`` from its beginning. Of ``decisions`` it uses
    only how far each symbol is decided, and which decisions have an intent: the bars after that are kept for intents
    that are still to be read.
Writes
    ``orders``. For each intent exactly one ``OrderPlaced`` or ``IntentRefused``, in the order of the intents. For each
    order ``OrderFilled``, ``OrderEnded``, or one of each. ``AccountReconciled`` and ``AccountDiffers``, about an
    account at an exchange. ``trades``: ``TradeClosed`` when all that a decision opened is closed.
Remembers
    In its snapshot: what is held of each symbol, the open order, the last intent and the last order; how far each
    symbol is decided and read. Bars that intents may still need, and intents that wait for their bar, are read again
    after a restart. If the snapshot is lost, it is made again from ``orders``.
Refuses
    An intent of a halted partition; a live one after its ``valid_until``, by the server's clock; one that the policy's
    caps or its cool-down forbid; a second one for a bar. At an exchange also an intent that is not live, a sale of what
    is not held, and everything while the account differs from the log. ``IntentRefused`` has the reason, and the intent
    is never traded later.

Which policy
    Intents are executed under ``SetExecutionPolicy`` of the version with which they are stamped. Whether a halt closes
    positions is a matter of the newest version. The caps hold for each partition; of ``total_cap`` each has an equal
    share.

Exactly once
    Orders are committed with the position in ``intents``, in one step, under the claim of the group. A process that was
    killed, or suspended and replaced, places no order twice and leaves none out.

A halt
    Each batch is handled and committed under the mark of the partition's fence. Once the fence is closed, no commit
    with an order for an intent is accepted. An order that was placed before is filled, as a market order would have
    been. If the policy says so, a halt closes all positions, by orders whose cause is ``halt``.

At an exchange
    ``desk`` sends the orders that are committed, looks up what became of them, and hands it to the core
    (``Executor.answered``), which writes it: so positions are a fold of ``orders`` there too. An intent waits until the
    exchange has answered about the earlier order of its series, and about the account, but no longer than it is valid.

The order of reading
    An intent at bar t is decided once bar t of its symbol was read, and filled by the next bar of its symbol. Intents
    are decided in the order of their stream; one whose bar is missing delays the others until a later bar of its symbol
    was read, or ``market`` was read a minute past the intent. So orders and fills do not depend on how fast the streams
    were read, in which interleaving, batches, or with which restarts. A halt and the expiry of live intents depend on
    time; the events record the outcome. Bars are kept for 4,096 bars of a symbol after its last decision, and
    ``market`` is paused while it is ahead by half of that: an intent that is later than that is refused (``no_bar``).
"""
