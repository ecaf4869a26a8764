-- 2: what a note is written in. Before, each was taken for Markdown, also those that were sent as HTML.
--
-- A table of its own and no column: to add a column to a STRICT table SQLite checks every row of it, and
-- holds the write lock meanwhile.

-- How far the parts of each version are that run outside of its own transaction.
CREATE TABLE migrations (
    version     INTEGER PRIMARY KEY,
    filled_to   INTEGER NOT NULL DEFAULT 0,     -- the last key that was looked at
    filled_rows INTEGER NOT NULL DEFAULT 0,
    filled      INTEGER NOT NULL DEFAULT 0,     -- 1 when nothing was left
    finalized   INTEGER NOT NULL DEFAULT 0      -- 1 when it was contracted, too
) STRICT;

CREATE TABLE note_sources (
    note       INTEGER PRIMARY KEY REFERENCES notes (id),
    media_type TEXT    NOT NULL
) STRICT;

-- Code of version 1 writes beside us. Until the contract.
CREATE TRIGGER notes_by_old_code AFTER INSERT ON notes BEGIN
    INSERT INTO note_sources (note, media_type) VALUES (
        NEW.id,
        CASE WHEN NEW.source LIKE '<%' AND substr(NEW.source, 1, 3) = substr(NEW.content, 1, 3)
             THEN 'text/html' ELSE 'text/markdown' END
    );
END;
