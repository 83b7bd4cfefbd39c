export default function NotFound() {
  return (
    <div className="plain">
      <header>
        <h1>Nothing is here</h1>
        <p className="lead">
          The page that takes calls is <a href="/">at the front</a>.
        </p>
      </header>
    </div>
  );
}
