/** Begins: makes the way to the app, and shows the page. */
import './styles/index.css';
import { createRoot } from 'react-dom/client';
import { App } from './app.tsx';
import { Model } from './model.ts';

const root = document.getElementById('root');
if (root === null) throw new Error('index.html has no element "root"');
createRoot(root).render(<App model={new Model()} />);
