-- 1: the feed. See README.md in this crate before writing the next one.

PRAGMA application_id = 0x70756d70; -- "pump": tells our file from anybody else's

-- Read by every release there will ever be, so this table keeps its shape.
CREATE TABLE schema (
    only    INTEGER PRIMARY KEY CHECK (only = 1),
    version INTEGER NOT NULL,
    compat  INTEGER NOT NULL
) STRICT;

-- What may not change once an account exists.
CREATE TABLE site (
    only       INTEGER PRIMARY KEY CHECK (only = 1),
    public_url TEXT    NOT NULL
) STRICT;

-- Written to find out whether writing works.
CREATE TABLE probe (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    data BLOB    NOT NULL
) STRICT;
INSERT INTO probe (only, data) VALUES (1, x'');

CREATE TABLE accounts (
    id            INTEGER PRIMARY KEY,
    name          TEXT    NOT NULL UNIQUE,
    display_name  TEXT    NOT NULL,
    summary       TEXT    NOT NULL,
    password_hash TEXT    NOT NULL,             -- PHC string
    created       INTEGER NOT NULL,
    active        INTEGER NOT NULL DEFAULT 0    -- the day of the latest activity, its first millisecond
) STRICT;
CREATE INDEX accounts_active ON accounts (active);

CREATE TABLE tokens (
    hash    BLOB    PRIMARY KEY,                -- SHA-256 of the token, which itself is kept nowhere
    account INTEGER NOT NULL REFERENCES accounts (id),
    kind    TEXT    NOT NULL,
    created INTEGER NOT NULL,
    expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX tokens_account ON tokens (account, created);
CREATE INDEX tokens_expires ON tokens (expires);

-- No unique key on what a note says: two equal notes are two notes.
CREATE TABLE notes (
    id        INTEGER PRIMARY KEY,
    author    INTEGER NOT NULL REFERENCES accounts (id),
    source    TEXT    NOT NULL,
    content   TEXT    NOT NULL,
    published INTEGER NOT NULL,
    deleted   INTEGER                           -- a tombstone since then, its texts emptied
) STRICT;
CREATE INDEX notes_author ON notes (author, id) WHERE deleted IS NULL;

-- What somebody did. `kind` has no CHECK: a later release may know more kinds, beside this one.
CREATE TABLE activities (
    id        INTEGER PRIMARY KEY,
    actor     INTEGER NOT NULL REFERENCES accounts (id),
    kind      TEXT    NOT NULL,
    note      INTEGER REFERENCES notes (id),        -- of create, delete, like
    target    INTEGER REFERENCES accounts (id),     -- of follow
    undone    INTEGER REFERENCES activities (id),   -- of undo
    recipient INTEGER REFERENCES accounts (id),     -- somebody it is told to who need not be a follower
    published INTEGER NOT NULL
) STRICT;
CREATE INDEX activities_actor ON activities (actor, id);
CREATE INDEX activities_followers ON activities (actor, id) WHERE kind IN ('create', 'delete');
CREATE INDEX activities_recipient ON activities (recipient, id) WHERE recipient IS NOT NULL;
CREATE INDEX activities_note ON activities (note) WHERE note IS NOT NULL;
CREATE INDEX activities_undone ON activities (undone) WHERE undone IS NOT NULL;

-- Follows and likes that hold now, each by the activity that made it.
CREATE TABLE follows (
    activity INTEGER PRIMARY KEY REFERENCES activities (id),
    follower INTEGER NOT NULL REFERENCES accounts (id),
    followed INTEGER NOT NULL REFERENCES accounts (id),
    UNIQUE (follower, followed),
    CHECK (follower <> followed)
) STRICT;
CREATE INDEX follows_follower ON follows (follower, activity);
CREATE INDEX follows_followed ON follows (followed, activity);

CREATE TABLE likes (
    activity INTEGER PRIMARY KEY REFERENCES activities (id),
    account  INTEGER NOT NULL REFERENCES accounts (id),
    note     INTEGER NOT NULL REFERENCES notes (id),
    UNIQUE (note, account)
) STRICT;
