-- Times are milliseconds since 1970-01-01 UTC. Digests are 32 bytes.

-- +goose Up
CREATE TABLE account (
    id      INTEGER PRIMARY KEY,
    name    TEXT    NOT NULL UNIQUE,
    created INTEGER NOT NULL
);

CREATE TABLE token (
    id        INTEGER PRIMARY KEY,
    account   INTEGER NOT NULL REFERENCES account (id),
    hash      BLOB    NOT NULL UNIQUE, -- SHA-256 of the secret
    name      TEXT    NOT NULL,
    scope     TEXT    NOT NULL CHECK (scope IN ('read', 'write', 'admin')),
    pattern   TEXT    NOT NULL,        -- '' or owner/name with *
    created   INTEGER NOT NULL,
    expires   INTEGER,
    last_used INTEGER,
    revoked   INTEGER
);
CREATE INDEX token_account ON token (account);

CREATE TABLE repository (
    id      INTEGER PRIMARY KEY,
    account INTEGER NOT NULL REFERENCES account (id),
    owner   TEXT    NOT NULL, -- name of the account, which never changes
    name    TEXT    NOT NULL,
    public  INTEGER NOT NULL CHECK (public IN (0, 1)),
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    UNIQUE (owner, name)
);

CREATE TABLE flist (
    id         INTEGER PRIMARY KEY,
    repository INTEGER NOT NULL REFERENCES repository (id),
    digest     BLOB    NOT NULL,
    tree       BLOB    NOT NULL,
    size       INTEGER NOT NULL, -- bytes of the shipped file
    entries    INTEGER NOT NULL,
    files      INTEGER NOT NULL,
    dirs       INTEGER NOT NULL,
    objects    INTEGER NOT NULL,
    chunks     INTEGER NOT NULL,
    blobs      INTEGER NOT NULL,
    bytes      INTEGER NOT NULL,
    stored     INTEGER NOT NULL,
    publisher  INTEGER NOT NULL REFERENCES account (id),
    created    INTEGER NOT NULL,
    UNIQUE (repository, digest)
);

CREATE TABLE tag (
    repository INTEGER NOT NULL REFERENCES repository (id),
    name       TEXT    NOT NULL,
    flist      INTEGER NOT NULL REFERENCES flist (id),
    moved      INTEGER NOT NULL,
    PRIMARY KEY (repository, name)
);

CREATE TABLE tag_move (
    id         INTEGER PRIMARY KEY,
    repository INTEGER NOT NULL REFERENCES repository (id),
    name       TEXT    NOT NULL,
    flist      INTEGER REFERENCES flist (id), -- NULL: the tag was deleted
    account    INTEGER NOT NULL REFERENCES account (id),
    at         INTEGER NOT NULL
);
CREATE INDEX tag_move_name ON tag_move (repository, name, id);

CREATE TABLE blob (
    id      INTEGER PRIMARY KEY AUTOINCREMENT, -- never used again: rows of chunk may outlive it
    digest  BLOB    NOT NULL UNIQUE,
    size    INTEGER NOT NULL,
    flags   INTEGER NOT NULL,
    created INTEGER NOT NULL
);

-- Who proved to hold a blob, by which token.
CREATE TABLE blob_upload (
    blob    INTEGER NOT NULL REFERENCES blob (id),
    account INTEGER NOT NULL REFERENCES account (id),
    token   INTEGER NOT NULL REFERENCES token (id),
    PRIMARY KEY (blob, account, token)
) WITHOUT ROWID;

-- Which repositories need a blob.
CREATE TABLE blob_repository (
    blob       INTEGER NOT NULL REFERENCES blob (id),
    repository INTEGER NOT NULL REFERENCES repository (id),
    PRIMARY KEY (blob, repository)
) WITHOUT ROWID;

-- Where chunks lie. The same chunk may lie in several blobs: who may not read the first of
-- them finds it in the next. No foreign key: one row a chunk, checked where rows are made.
CREATE TABLE chunk (
    digest BLOB    NOT NULL,
    blob   INTEGER NOT NULL,
    start  INTEGER NOT NULL,
    stored INTEGER NOT NULL,
    size   INTEGER NOT NULL,
    codec  INTEGER NOT NULL,
    PRIMARY KEY (digest, blob)
) WITHOUT ROWID;
