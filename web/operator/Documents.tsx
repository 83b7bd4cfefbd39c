import { useAction } from "./action";
import { part, send, useGet } from "./api";
import { Badge } from "./Badge";
import { Confirm } from "./Confirm";
import { Loaded, Nothing } from "./Loaded";
import { Outcome } from "./Outcome";
import type { DocumentFile, Documents as Library } from "./shapes";
import { moment, size } from "./times";
import { TrySearch } from "./TrySearch";
import { Upload } from "./Upload";

const PATH = "/api/documents";

/** What the agent answers from. */
export default function Documents() {
  const library = useGet<Library>(PATH);
  const action = useAction();
  const remove = ({ filename }: DocumentFile) =>
    void action.run(async () => {
      const done = await send("DELETE", `${PATH}/${part(filename)}`);
      void library.mutate();
      return done;
    });
  const reindex = ({ filename }: DocumentFile) =>
    void action.run(async () => {
      const done = await send("POST", `${PATH}/${part(filename)}/reindex`);
      void library.mutate();
      return done;
    });
  return (
    <Loaded from={library}>
      {(known) => (
        <>
          <State library={known} />
          {known.writable && <Upload library={known} onUploaded={() => void library.mutate()} />}
          <Outcome action={action} />
          <Files library={known} busy={action.busy} onRemove={remove} onReindex={reindex} />
          <TrySearch />
        </>
      )}
    </Loaded>
  );
}

function State({ library }: { library: Library }) {
  const { folder, indexing, progress, error, writable } = library;
  return (
    <>
      <p className="lead">
        The agent answers from the files in <code>{folder}</code>.
        {!writable && " Nothing can be put there from here: the runner may not write into it."}
      </p>
      {error && <p className="notice bad">{error}</p>}
      {indexing && (
        <p className="notice">
          {progress.total ? `${progress.done} of ${progress.total} files are read` : "The folder is looked at"}{" "}
          …{" "}
          <progress value={progress.done} max={progress.total || 1} aria-label="Files read" />
        </p>
      )}
    </>
  );
}

function Files({ library: { files, writable }, busy, onRemove, onReindex }: {
  library: Library;
  busy: boolean;
  onRemove: (file: DocumentFile) => void;
  onReindex: (file: DocumentFile) => void;
}) {
  if (files.length === 0) {
    return <Nothing title="There is no document yet.">Upload one, or put it into the folder.</Nothing>;
  }
  return (
    <ul className="rows" aria-label="Documents">
      {files.map((file) => (
        <li key={file.filename} data-testid="document">
          <div>
            <h2>{file.filename}</h2>
            <p className="quiet facts">{facts(file)}</p>
            {file.reason && <p className="reason">{file.reason}</p>}
          </div>
          <Badge state={file.status} />
          <div className="acts">
            <button
              type="button"
              className="small"
              disabled={busy}
              aria-label={`Read again: ${file.filename}`}
              onClick={() => onReindex(file)}
            >
              Read again
            </button>
            {writable && (
              <Confirm
                className="small"
                label="Remove"
                name={`Remove ${file.filename}`}
                title="Remove this document?"
                question={`${file.filename} is deleted from the folder, and the agent forgets it.`}
                yes="Remove it"
                disabled={busy}
                onYes={() => onRemove(file)}
              />
            )}
          </div>
        </li>
      ))}
    </ul>
  );
}

/** "41 chunks · 18 kB · changed 20 Nov 2026". */
function facts({ chunks, bytes, modified_at }: DocumentFile): string {
  const known = chunks > 0 ? [chunks === 1 ? "1 chunk" : `${chunks} chunks`] : [];
  return [...known, size(bytes), `changed ${moment(modified_at)}`].join(" · ");
}
